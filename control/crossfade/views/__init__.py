"""What people look at, made from one answer of the database."""
