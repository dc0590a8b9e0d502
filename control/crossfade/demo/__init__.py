"""The demo: move a real chat history from V1 to V2 under live traffic, and prove what came out."""
