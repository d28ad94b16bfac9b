package cauldron.guardrail_test

import data.cauldron.guardrail

request := {
	"proposal": {
		"operation": "devops.file.write",
		"args": {"path": "app.conf", "text": "workers = 4\n"},
		"dry_run": "-workers = 2\n+workers = 4\n",
	},
	"taint": [],
}

groups(rules) := {need.group | some rule in rules; some need in rule.approvals}

test_one_of_the_team_approves if {
	groups(guardrail.step_up) == {"devops"} with input as request
	count(guardrail.deny) == 0 with input as request
}

test_a_silent_team_is_helped_after_an_hour if {
	some rule in guardrail.step_up with input as request
	rule.escalate == [{"after_ms": 3600000, "add": "devops-lead"}]
}

test_text_of_strangers_asks_for_a_second_look if {
	groups(guardrail.step_up) == {"devops", "security-duty"} with input as object.union(request, {"taint": ["untrusted:web"]})
}

test_our_own_labels_do_not if {
	groups(guardrail.step_up) == {"devops"} with input as object.union(request, {"taint": ["label:internal"]})
}

test_a_change_that_is_not_shown_is_denied if {
	count(guardrail.deny) == 1 with input as json.remove(request, ["proposal/dry_run"])
}

test_secrets_are_kept if {
	count(guardrail.deny) == 1 with input as object.union(request, {"proposal": {"args": {"path": "secrets/db.conf"}}})
}
