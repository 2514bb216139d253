"""Games: commands, and the instances (processes) that own games."""
