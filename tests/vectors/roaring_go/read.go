// Reads a list's bytes from standard input with the Go implementation of Roaring, and prints how
// many keys it found and the SHA-256 of all of them as little-endian 64-bit words, ascending.
//
// Needs golang-go and golang-github-roaringbitmap-roaring-dev as Debian has them:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run read.go
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"

	"github.com/RoaringBitmap/roaring"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	in := bufio.NewReader(os.Stdin)
	var buckets uint64
	check(binary.Read(in, binary.LittleEndian, &buckets))
	seen := sha256.New()
	count := 0
	for ; buckets > 0; buckets-- {
		var high uint32
		check(binary.Read(in, binary.LittleEndian, &high))
		bitmap := roaring.New()
		_, err := bitmap.ReadFrom(in)
		check(err)
		for each := bitmap.Iterator(); each.HasNext(); count++ {
			key := uint64(high)<<32 | uint64(each.Next())
			check(binary.Write(seen, binary.LittleEndian, key))
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		panic("bytes left over")
	}
	said := map[string]interface{}{"count": count, "sha256": seen.Sum(nil)}
	check(json.NewEncoder(os.Stdout).Encode(said))
}
