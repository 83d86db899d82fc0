"""The proof that nothing accepted is lost and nothing counted twice: `python -m chaos`.

Six customers submit jobs over HTTP while everything beneath them is killed, emptied and restarted; in the end the books
are compared: what was accepted, what PostgreSQL holds, what the provider was asked.
"""
