"""`ciris-billing-qa`: checks that a deployment behaves as documented."""
