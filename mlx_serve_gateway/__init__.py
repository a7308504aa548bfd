"""The gateway: takes requests, decides which workers live, forwards batches to them."""
