"""The shop beside a web application: FastAPI's lifespan holds the connection and the service.

uvicorn --app-dir examples shop_fastapi:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, HTTPException, Request
from shop import Order, Quote, config, price

import natsery


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, natsery.ServiceClient]]:
    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    async with natsery.connect(url) as nc, natsery.serve(nc, config):
        yield {"client": natsery.ServiceClient(nc)}


app = FastAPI(lifespan=lifespan)


@app.get("/price/{item}")
async def get_price(request: Request, item: str, count: int = 1) -> Quote:
    client: natsery.ServiceClient = request.state.client
    try:
        with anyio.fail_after(2):
            return await client.call(price, Order(item, count), service=config)
    except natsery.ServiceError as error:
        raise HTTPException(error.code, error.description) from error
