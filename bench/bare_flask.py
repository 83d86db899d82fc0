"""Baselines: Flask routes that read a body, or save an uploaded file, and do nothing else."""

import os
from pathlib import Path
from uuid import uuid4

from flask import Flask, request

app = Flask("bare")


@app.post("/v1/jobs")
def submit() -> tuple[dict[str, str], int]:
    request.get_data()
    return {"status": "queued"}, 202


@app.post("/v1/files")
def save() -> dict[str, str]:
    request.files["file"].save(Path(os.environ["UPLOAD_FOLDER"]) / uuid4().hex)
    return {"status": "processed"}
