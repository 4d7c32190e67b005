"""What every operation of the REST API shares: problems, pages of lists, doors, limits, repeats, the document."""
