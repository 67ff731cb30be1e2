"""Ground floor: ids, quantities, errors, paths. Imports nothing else of labkit."""
