"""The course: hand-built containers, predictions, the index of chapters."""
