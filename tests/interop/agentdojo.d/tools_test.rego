package cauldron.guardrail_test

import data.cauldron.guardrail

request := {
	"proposal": {"operation": "tools.outbox.send-email", "args": {"recipients": ["bo@acme.example"], "subject": "Lunch", "body": "At noon?"}, "taint": []},
	"principal": {"sub": "ana", "purpose": "Please invite bo@acme.example to lunch, see www.menu.example."},
	"taint": ["untrusted:mail"],
	"history": [{"outcome": "DONE"}],
}

asked := {rule.rule | some rule in guardrail.step_up}

test_what_was_named_goes if {
	asked == set() with input as request
	count(guardrail.allow) == 1 with input as request
}

test_whom_nobody_named_does_not if {
	asked == {"target.unnamed"} with input as json.patch(request, [{"op": "replace", "path": "/proposal/args/recipients", "value": ["eve@evil.example"]}])
}

test_a_part_of_a_name_is_no_name if {
	asked == {"target.unnamed"} with input as json.patch(request, [{"op": "replace", "path": "/proposal/args/recipients", "value": ["o@acme.example"]}])
	asked == {"target.unnamed"} with input as json.patch(request, [{"op": "replace", "path": "/proposal/args/recipients", "value": ["bo"]}])
}

test_without_text_of_strangers_nobody_is_asked if {
	asked == set() with input as json.patch(request, [
		{"op": "replace", "path": "/proposal/args/recipients", "value": ["eve@evil.example"]},
		{"op": "replace", "path": "/taint", "value": ["sensitive:identity"]},
	])
}

test_a_session_without_purpose_named_nobody if {
	asked == {"target.unnamed"} with input as json.remove(request, ["principal/purpose"])
	asked == {"target.unnamed"} with input as json.patch(request, [{"op": "replace", "path": "/principal/purpose", "value": null}])
}

test_links_and_sensitive_data_stay if {
	asked == {"link.unnamed"} with input as json.patch(request, [{"op": "replace", "path": "/proposal/args/body", "value": "see https://bad.example/x"}])
	asked == set() with input as json.patch(request, [{"op": "replace", "path": "/proposal/args/body", "value": "see www.menu.example"}])
	asked == {"sensitive.out"} with input as json.patch(request, [{"op": "add", "path": "/taint/-", "value": "sensitive:identity"}])
}

test_what_destroys_asks if {
	gone := json.patch(request, [
		{"op": "replace", "path": "/proposal/operation", "value": "tools.drive.delete-file"},
		{"op": "replace", "path": "/proposal/args", "value": {"file_id": "13"}},
		{"op": "replace", "path": "/principal/purpose", "value": "What are we doing on June 13?"},
	])
	asked == {"cannot.undo", "target.unnamed"} with input as gone
}

test_names_from_records_go_where_the_tool_takes_them if {
	share := json.patch(request, [
		{"op": "replace", "path": "/proposal/operation", "value": "tools.drive.share-file"},
		{"op": "replace", "path": "/proposal/args", "value": {"file_id": "26", "email": "bo@acme.example", "sources": {"file_id": "records", "email": "records"}}},
	])
	asked == set() with input as share
	asked == {"target.unnamed"} with input as json.patch(share, [{"op": "replace", "path": "/proposal/args/email", "value": "eve@evil.example"}])
	asked == {"target.unnamed"} with input as json.patch(share, [{"op": "replace", "path": "/history", "value": []}])
}

test_large_amounts_are_named if {
	pay := json.patch(request, [
		{"op": "replace", "path": "/proposal/operation", "value": "tools.bank.send-money"},
		{"op": "replace", "path": "/proposal/args", "value": {"recipient": "bo@acme.example", "amount": "2200.0"}},
	])
	asked == {"amount.unnamed"} with input as pay
	asked == set() with input as json.patch(pay, [{"op": "replace", "path": "/principal/purpose", "value": "pay bo@acme.example 2200.0"}])
	asked == set() with input as json.patch(pay, [{"op": "replace", "path": "/proposal/args/amount", "value": "10.0"}])
}

test_public_text_is_not_the_agents_word if {
	say := json.patch(request, [
		{"op": "replace", "path": "/proposal/operation", "value": "tools.answer.tell"},
		{"op": "replace", "path": "/proposal/args", "value": {"text": "Riverside"}},
	])
	asked == set() with input as say
	asked == {"quotes.public"} with input as json.patch(say, [{"op": "replace", "path": "/proposal/taint", "value": ["quotes:public"]}])
}
