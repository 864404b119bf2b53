"""Getting models from the Hugging Face Hub and other addresses, and publishing them."""
