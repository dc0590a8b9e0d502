"""Small inputs on which a mirror once lost, changed or refused what it promised to keep.

Each file is a kind of trouble; what is wanted stands in the names of its tests.
"""
