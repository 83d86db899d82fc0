"""A baseline: a Flask route that reads a body and answers 202, and does nothing else."""

from flask import Flask, request

app = Flask("bare")


@app.post("/v1/jobs")
def submit() -> tuple[dict[str, str], int]:
    request.get_data()
    return {"status": "queued"}, 202
