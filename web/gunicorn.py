"""How gunicorn serves the web app: `gunicorn -c web/gunicorn.py wsgi:app`."""

from common.settings import settings

bind = f"{settings().web_host}:{settings().port}"
workers = settings().web_processes
worker_class = "web.greenlets.Worker"
# Requests that wait for a job, and uploads over slow lines, take longer than gunicorn's 30 s.
timeout = 120
graceful_timeout = 70
keepalive = 75
# Requests are logged by the app, with the account and the request's id.
accesslog = None
errorlog = "-"
# Its place is one for a user, whatever number of stacks that user runs; the supervisor watches the process itself.
control_socket_disable = True
# The app logs and settings are made in each process; a shared heart-beat file belongs in memory.
worker_tmp_dir = "/dev/shm" if __import__("os").path.isdir("/dev/shm") else None
