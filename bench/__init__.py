"""`python -m bench`: how fast Batchyard is, each figure beside a baseline taken in the same run."""
