"""One module per version of the tables; never changed once it has been released."""
