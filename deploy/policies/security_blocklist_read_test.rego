package cauldron.guardrail_test

import data.cauldron.guardrail

test_reading_is_allowed if {
	count(guardrail.allow) == 1 with input as {"proposal": {"operation": "security.blocklist.read"}}
}

test_nothing_else_is if {
	count(guardrail.allow) == 0 with input as {"proposal": {"operation": "security.address.block"}}
}
