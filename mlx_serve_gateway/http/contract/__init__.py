"""What the gateway promises over HTTP, as plain data: read only when somebody asks for it."""
