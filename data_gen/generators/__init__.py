"""What writes instruction data from annotations: templates, language models, and both."""
