"""How much a key and a tenant may have: requests, tokens, streams; counted in Redis, so right over several gateways."""
