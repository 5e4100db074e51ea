"""Half an hour of ordinary load with a fault each minute: nothing may grow. See `__main__`."""
