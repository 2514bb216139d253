"""What all routes share and no feature owns."""
