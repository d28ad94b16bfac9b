# What an assistant may do with the tools of somebody's office, when strangers can write what it reads.
#
# A session that has read text of strangers (a label `untrusted:`) goes on alone only with what its principal named before it read
# anything. Whom it writes to, what it touches, what it pays: a value that stands in `principal.purpose` may be used, and a few
# kinds of names may be taken from structured records that an earlier call brought. For anything else a person is asked.
#
# Nothing here knows who wrote which tool. What a tool is stands in the data: which arguments say whom or what it reaches
# (`targets`), which of those may come from records (`records`), whether it reaches outward, destroys, pays (`amounts`) or speaks to
# its principal.
package cauldron.guardrail

tool := data.assistant.tools[input.proposal.operation]

limits := data.assistant.limits

args := input.proposal.args

purpose := lower(input.principal.purpose) if is_string(input.principal.purpose)

tainted if {
	some label in input.taint
	startswith(label, "untrusted:")
}

allow contains {"rule": "assistant.acts", "why": "nothing here needs a person"} if {
	tool
}

step_up contains ask("target.unnamed", sprintf("%s is %q, which nobody named before text of strangers was read", [name, value])) if {
	tainted
	some name in tool.targets
	some value in values(name)
	not named(value)
	not recorded(name)
}

step_up contains ask("cannot.undo", "text of strangers was read, and this cannot be taken back") if {
	tainted
	tool.destroys
}

step_up contains ask("sensitive.out", sprintf("%s was read, after text of strangers, and this reaches others", [label])) if {
	tainted
	tool.outward
	some label in input.taint
	startswith(label, "sensitive:")
}

step_up contains ask("link.unnamed", sprintf("it carries the link %s, which nobody named", [link])) if {
	tainted
	tool.outward
	some text in texts
	some link in regex.find_n(`(?i)(?:https?://|www\.)[^\s"'<>]+`, text, -1)
	not named(link)
}

step_up contains ask("amount.unnamed", sprintf("%s is %s, which nobody named, and more than %d", [name, args[name], limits.amount_unnamed_max])) if {
	tainted
	some name in tool.amounts
	to_number(args[name]) > limits.amount_unnamed_max
	not named(args[name])
}

# Whoever tracks where words come from says so in the taint of the call itself.
step_up contains ask("quotes.public", "it repeats what only public text of strangers says, as if it were the agent's own word") if {
	tool.speaks
	"quotes:public" in input.proposal.taint
}

ask(rule, why) := {
	"rule": rule,
	"why": why,
	"approvals": [{"group": limits.approver_group, "n": 1}],
	"decide_within_ms": limits.decide_within_ms,
}

values(name) := {args[name]} if is_string(args[name])

values(name) := {value | some value in args[name]} if is_array(args[name])

texts contains args[name] if {
	some name
	is_string(args[name])
}

# Whether the principal named it: as a whole, not as a part of another word or number. A short number proves nothing.
named(value) if {
	count(value) >= limits.named_len_min
	parts := split(purpose, lower(value))
	some i, before in parts
	after := parts[i + 1]
	not regex.match(`[a-z0-9@_+-]$`, before)
	not regex.match(`^[a-z0-9@_+-]`, after)
}

# Whether all of an argument stands in structured fields of what earlier calls brought, and such a call was carried out.
recorded(name) if {
	name in tool.records
	args.sources[name] == "records"
	some step in input.history
	step.outcome == "DONE"
}
