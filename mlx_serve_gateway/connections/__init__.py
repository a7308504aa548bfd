"""HTTP/1.1 connections: Hypercorn's, made fit for an open port.

Hypercorn 0.18 trusts its clients: it has no deadline for a request's head, waits without end for
room that nobody makes, reads no further while a client pipelines, and speaks HTTP/2 and WebSocket
to whoever asks. It has no settings for these.
"""
