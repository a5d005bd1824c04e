"""Everything of ``NODEADMIN_ENGINE=celery`` on one machine, for trying it: ``script/server --scale``.

Imports no Django: it starts the processes that do.
"""
