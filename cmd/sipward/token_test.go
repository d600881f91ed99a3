package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestTokens: the line that `sipward token new` prints lets the token in after a reload,
// for what its role allows, and what it does is logged; a token that is taken out is refused.
// The metrics count what has really passed.
func TestTokens(t *testing.T) {
	port := freePort(t)
	fresh := func(role string) (token, line string) {
		code, out := command(t, "token", "new", "--role", role, "--json", role+"-token")
		var made struct{ Token, Line string }
		if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil {
			t.Fatalf("exit code %d, %v:\n%s", code, err, out)
		}
		return made.Token, made.Line
	}
	reading, readLine := fresh("read")
	writing, writeLine := fresh("write")
	r := prepare(t)
	whole := strings.Replace(r.text(), "control: {", fmt.Sprintf("control: {listen: [\"127.0.0.1:%d\"], tokens: [%s], ", port, readLine), 1)
	r.write(whole)
	r.begin()
	t.Cleanup(r.end)
	ask := func(method, path, token, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	const ban = `{"address": "192.0.2.77"}`
	if code, text := ask("POST", "/v1/ban", reading, ban); code != http.StatusForbidden {
		t.Errorf("a read token bans: %d %s", code, text)
	}
	if code, text := ask("POST", "/v1/ban", writing, ban); code != http.StatusUnauthorized {
		t.Errorf("a token that is not in force: %d %s", code, text)
	}
	r.write(strings.Replace(whole, readLine, writeLine, 1))
	r.cli(0, words("reload"), "control.tokens")
	if code, text := ask("POST", "/v1/ban", writing, ban); code != http.StatusOK {
		t.Errorf("after the reload: %d %s", code, text)
	}
	if code, _ := ask("GET", "/v1/status", reading, ""); code != http.StatusUnauthorized {
		t.Errorf("a token that was taken out: %d", code)
	}
	r.cli(0, words("explain 192.0.2.77"), "token write-token (from 127.0.0.1)")

	scanner := r.from("127.0.0.1")
	want := `sipward_messages_total{direction="from-outside",method="OPTIONS",reason="scanner",verdict="drop"}`
	for deadline := time.Now().Add(30 * time.Second); ; {
		scanner.sendAs("friendly-scanner")
		_, text := ask("GET", "/metrics", writing, "")
		if strings.Contains(text, "\n"+want) && strings.Contains(text, "\nsipward_bans{kind=\"manual\"} 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in\n%s", want, text)
		}
	}
	for _, args := range [][]string{{"token", "new", "x"}, {"token", "new", "--role", "admin", "x"}, {"token", "new", "--role", "read"}, {"token", "new", "--role", "read", "a b"}} {
		if code, out := command(t, args...); code != exitUsage {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
}
