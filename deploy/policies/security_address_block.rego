# Blocking one network address for a while (class R1).
#
# The engine collects deny, defer, step_up and allow, and the strictest wins: deny > defer > step_up > allow. Where nothing
# holds, the answer is deny. Numbers live in security_address_block.json.
package cauldron.guardrail

limits := data.address_block

args := input.proposal.args

deny contains {"rule": "address.protected", "why": why} if {
	some range in limits.never_block
	net.cidr_contains(range, args.address)
	why := sprintf("%s lies in %s, which is never blocked", [args.address, range])
}

deny contains {"rule": "ttl.limit", "why": why} if {
	args.ttl_s > limits.ttl_s_max
	why := sprintf("a block of %d s is longer than %d s", [args.ttl_s, limits.ttl_s_max])
}

deny contains {"rule": "confidence.floor", "why": why} if {
	input.confidence.raw_ppm < limits.confidence_floor_ppm
	why := sprintf("confidence %d ppm is below the floor of %d ppm", [input.confidence.raw_ppm, limits.confidence_floor_ppm])
}

deny contains {"rule": "evidence.missing", "why": "a block needs at least one line of evidence"} if {
	count(input.proposal.evidence) == 0
}

deny contains {"rule": "undo.missing", "why": "a block must be reversible and say how"} if {
	not undoable
}

undoable if {
	input.proposal.reversibility == "reversible"
	input.proposal.undo_plan != ""
}

# An isolated address may be a customer: somebody on duty decides.
step_up contains {
	"rule": "duty.approves",
	"why": "blocking an address needs a person on duty",
	"approvals": [{"group": limits.approver_group, "n": limits.approvers}],
	"decide_within_ms": limits.decide_within_ms,
} if {
	input.proposal.operation == "security.address.block"
}
