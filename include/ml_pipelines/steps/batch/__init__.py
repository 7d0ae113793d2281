"""The steps of batch scoring and drift monitoring."""
