"""What an operator does about runs: read them, restore, hold a row, pause."""
