"""What every wing stands on: names of the contract, errors, values."""
