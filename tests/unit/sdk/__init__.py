"""The SDK against a server that misbehaves on purpose."""
