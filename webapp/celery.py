"""The Celery application. Loaded by webapp.runs.apps when Django is ready, so that `import webapp.vpms` loads neither."""

from celery import Celery

app = Celery("webapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
