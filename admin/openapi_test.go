package admin_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"sipward/admin"
)

// TestOpenAPI asks for the description, and holds routes, roles and answers to it.
func TestOpenAPI(t *testing.T) {
	openapi3filter.RegisterBodyDecoder("text/plain", openapi3filter.PlainBodyDecoder)
	b := &backend{}
	s := newSite(t, b, nil)
	res, text := s.send(t, "GET", "/v1/openapi.yaml", "", bearer(s.read))
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/yaml" {
		t.Fatalf("%s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var described []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			described = append(described, method+" "+path)
			need := admin.RoleOf(method, path).String()
			if op.Extensions["x-role"] != need {
				t.Errorf("%s %s is described with the role %v, and needs %s", method, path, op.Extensions["x-role"], need)
			}
		}
	}
	slices.Sort(described)
	if want := admin.Requests(); !slices.Equal(described, want) {
		t.Errorf("described are\n%q\nwant\n%q", described, want)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{
		"POST /v1/ban": `{"address":"192.0.2.1","for":"1h"}`, "POST /v1/allow": `{"address":"192.0.2.1"}`,
		"POST /v1/deny": `{"address":"192.0.2.1","force":true}`, "POST /v1/notify/test": `{"channel":"mail"}`,
	}
	for _, request := range described {
		method, path, _ := strings.Cut(request, " ")
		switch {
		case path == "/v1/events": // goes on for ever
			continue
		case method == "POST" && path == "/v1/report":
			path += "?last=24h&by=source&channel=mail"
		case path == "/v1/explain", method == "DELETE" && path != "/v1/session":
			path += "?address=192.0.2.1"
		}
		for _, token := range []string{s.write, ""} {
			checkAnswer(t, s, router, method, path, bodies[request], token)
		}
	}
}

type finder interface {
	FindRoute(*http.Request) (*routers.Route, map[string]string, error)
}

// checkAnswer makes a request and validates it and its answer.
func checkAnswer(t *testing.T, s *site, router finder, method, path, body, token string) {
	t.Helper()
	header := ""
	if token != "" {
		header = bearer(token)
	}
	res, text := s.send(t, method, path, body, header)
	if want := map[bool]int{true: 200, false: 401}[token != ""]; res.StatusCode != want {
		t.Errorf("%s %s: %s %s", method, path, res.Status, text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	route, params, err := router.FindRoute(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req, Route: route, PathParams: params,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader([]byte(text))),
	}
	if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
		t.Errorf("the answer to %s %s (%s): %v", method, path, res.Status, err)
	}
}
