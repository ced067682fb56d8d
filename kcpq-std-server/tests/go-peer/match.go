package main

import "strings"

// matches is the original server's matcher, its gaps included (docs/original.md 7).
func matches(pattern, subject string) bool {
	if pattern == subject {
		return true
	}
	if strings.HasSuffix(pattern, ".>") {
		prefix := strings.TrimSuffix(pattern, ".>")
		return subject == prefix || strings.HasPrefix(subject, prefix+".")
	}
	patternTokens := strings.Split(pattern, ".")
	subjectTokens := strings.Split(subject, ".")
	if len(patternTokens) != len(subjectTokens) {
		return false
	}
	// Without a `*` only equal strings match, and those have been found above.
	for i, token := range patternTokens {
		if token != "*" && token != subjectTokens[i] {
			return false
		}
	}
	return true
}
