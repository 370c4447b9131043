"""What a person sees: progress, tables, exit statuses."""
