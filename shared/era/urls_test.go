package era_test

import (
	"encoding/json"
	"testing"

	"erlmcp.dev/shared/era"
)

func TestURLsThatAUserMustVisitAreAskedFor(t *testing.T) {
	const required = `{"code":-32042,"message":"visit","data":{"elicitations":[{"mode":"url","url":"https://a/1","elicitationId":"x","message":"m"},{"mode":"url","url":"https://a/2","elicitationId":"y","message":"n"}]}}`
	for _, test := range []struct{ e, capabilities, result, refused string }{
		{
			required, `{"elicitation":{"form":{},"url":{}}}`,
			`{"resultType":"input_required","inputRequests":{"url_1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a/1","elicitationId":"x","message":"m"}},"url_2":{"method":"elicitation/create","params":{"mode":"url","url":"https://a/2","elicitationId":"y","message":"n"}}}}`, "",
		},
		{required, `{"elicitation":{}}`, "", `{"code":-32021,"message":"the server's user must visit a URL, and the client did not declare that it can ask for that","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}`},
		{`{"code":-32042,"message":"visit"}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32042,"message":"visit"}`},
		{`{"code":-32042,"message":"visit","data":{"elicitations":[]}}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32042,"message":"visit","data":{"elicitations":[]}}`},
		{`{"code":-32602,"message":"m"}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32602,"message":"m"}`},
		{`{"code":-32042,"data":{"elicitations":{}}}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32042,"data":{"elicitations":{}}}`},
		{`{"code":-32042,"data":{"elicitations":"[{}]"}}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32042,"data":{"elicitations":"[{}]"}}`},
		{`{"code":-32042,"data":{"elicitations":[1,null]}}`, `{"elicitation":{"url":{}}}`, "", `{"code":-32042,"data":{"elicitations":[1,null]}}`},
	} {
		result, refused := era.URLsRequired(json.RawMessage(test.e), json.RawMessage(test.capabilities))
		if string(result) != test.result || string(refused) != test.refused {
			t.Errorf("%s with %s became\n%s\n%s", test.e, test.capabilities, result, refused)
		}
	}
}
