"""Server, worker and deployments of a site."""
