package cauldron.guardrail_test

import data.cauldron.guardrail

reading(path) := {"proposal": {"operation": "devops.file.read", "args": {"path": path}}}

test_a_plain_file_may_be_read if {
	count(guardrail.allow) == 1 with input as reading("app.conf")
	count(guardrail.deny) == 0 with input as reading("app.conf")
}

test_secrets_are_kept if {
	every path in ["server.key", "server.pem", "secrets/db.conf"] {
		count(guardrail.deny) == 1 with input as reading(path)
	}
}
