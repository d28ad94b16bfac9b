# Every answer that a guardrail can give, asked for by the reason that an action states. For tests of the lists that others wrote.
package cauldron.guardrail

word := input.proposal.args.reason

clear := {"allow", "share", "modify", "later", "doubt"}

allow contains {"rule": "list.allow", "why": "the list lets it pass"} if word in clear

deny contains {"rule": "list.forbidden", "why": "nobody may do that"} if word == "forbidden"

# Allowed, until the session has read something sensitive.
deny contains {"rule": "list.sensitive", "why": "the session has read sensitive data"} if {
	word == "share"
	some label in input.taint
	startswith(label, "sensitive:")
}

modify contains {"rule": "list.shorter", "why": "half a minute is enough", "set": {"ttl_s": 30}} if {
	word == "modify"
	input.proposal.args.ttl_s > 30
}

step_up contains {"rule": "list.one", "why": "somebody decides", "approvals": [{"group": "security-duty", "n": 1}]} if word == "approve"

step_up contains {"rule": "list.two", "why": "two decide", "approvals": [{"group": "security-duty", "n": 2}]} if word == "two"

step_up contains {
	"rule": "list.stages",
	"why": "each stage decides",
	"approvals": [{"group": "security-duty", "n": 1}, {"group": "devops", "n": 1}],
} if {
	word == "stages"
}

step_up contains {
	"rule": "list.verified",
	"why": "somebody decides whose key is in hardware",
	"approvals": [{"group": "security-duty", "n": 1}],
	"assurance": "verified",
} if {
	word == "verified"
}

# Denied, unless the session has looked the case up.
deny contains {"rule": "list.unconfirmed", "why": "the case was not looked up"} if {
	word == "confirm"
	not confirmed
}

step_up contains {"rule": "list.confirmed", "why": "somebody decides", "approvals": [{"group": "security-duty", "n": 1}]} if {
	word == "confirm"
	confirmed
}

confirmed if {
	some step in input.history
	step.operation == "office.record.read"
	step.outcome == "DONE"
}

defer contains {"rule": "list.wait", "why": "not before something happens that never does"} if word == "wait"

defer contains {"rule": "list.later", "why": "not within the first two seconds"} if {
	word == "later"
	input.now_ms < input.proposal.created_ms + 2000
}

# What was read contradicts itself.
defer contains {"rule": "list.conflict", "why": "one record says yes and another says no"} if {
	word == "doubt"
	"says:yes" in input.taint
	"says:no" in input.taint
}
