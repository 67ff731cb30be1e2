"""The course: hand-built containers, predictions, stored answers, hints."""
