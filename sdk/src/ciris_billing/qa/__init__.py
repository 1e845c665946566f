"""`ciris-billing-qa`: does a deployment answer as the documentation says?"""
