"""From probabilities to what a user takes home: values in, bytes or files out; the stages store them."""
