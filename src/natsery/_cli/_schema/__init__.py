"""``natsery schema``: the types of a service, as they are and as AsyncAPI has them."""
