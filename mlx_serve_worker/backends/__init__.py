"""What a worker can run. Nothing is chosen here: ``__main__`` imports the one it needs."""
