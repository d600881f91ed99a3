package scanner_test

import (
	"testing"

	"sipward/policy/scanner"
)

func BenchmarkMatch(b *testing.B) {
	set := scanner.Default()
	for _, c := range realMessages {
		b.Run("innocent/"+c.who, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Match(&c.msg)
			}
		})
	}
	for _, a := range attacks[:3] {
		b.Run("attack/"+a.who, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set.Match(&a.msg)
			}
		})
	}
	b.Run("innocent/all of them", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			set.Match(&realMessages[i%len(realMessages)].msg)
		}
	})
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		scanner.Default()
	}
}
