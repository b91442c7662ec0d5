"""How typed bodies are read, written and described: codecs, and the shapes of types that the JSON codec reads with."""
