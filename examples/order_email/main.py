"""The sample shop with the checkout. `checkout.py` says how it goes on from there.

With examples/, examples/shop and templates/ on PYTHONPATH, each in a process of its own:

    python -m uvicorn order_email.main:app
    python -m app.workers.run order_placed
    python -m app.workers.run rabbit_relay         in a project: outbox_relay
"""

from app.main import app
from order_email import checkout

app.include_router(checkout.router)
