"""Who works on jobs that follow from what is stored: each has a ``Handler`` for the runner (``pacs.services.jobs``)."""
