"""Dream against reality: reports, metrics, pictures, videos."""
