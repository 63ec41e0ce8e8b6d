"""The first study file of somebody who begins: what is here, and files made for it."""
