"""All that passes between the parent and a worker: the order, the events, the outcome, the lifeline."""
