#!/bin/sh
# Makes the files beside it anew, with OpenSSL 3. After that, make tests/vectors/crypto.jsonl again.
set -eu
cd "$(dirname "$0")"
rm -f -- *.pem *.p12

openssl genrsa -traditional -out rsa2048.pem 2048
openssl pkcs8 -topk8 -nocrypt -in rsa2048.pem -out rsa2048-pkcs8.pem
openssl genrsa -traditional -out rsa1024.pem 1024
openssl genrsa -traditional -out rsa512.pem 512
for curve in prime256v1 secp384r1 secp521r1 secp224r1; do
    openssl ecparam -genkey -noout -name $curve -out $curve.pem
    openssl pkcs8 -topk8 -nocrypt -in $curve.pem -out $curve-pkcs8.pem
done
# encrypted as ACM exports keys, and as openssl does by itself
openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA1 -passout "pass:se cret" -in prime256v1.pem -out prime256v1-encrypted.pem
openssl pkcs8 -topk8 -v2 aes-256-cbc -passout "pass:se cret" -in rsa2048.pem -out rsa2048-encrypted.pem
openssl genpkey -algorithm ed25519 -out ed25519.pem
openssl genpkey -algorithm x25519 -out x25519.pem

days="-days 36500"
openssl req -x509 $days -key prime256v1.pem -subj "/C=DE/O=Keyferry Tests/CN=Root, of tests" -out root.crt.pem \
    -addext keyUsage=critical,keyCertSign
openssl req -new -key secp384r1.pem -subj "/CN=Intermediate of tests" -out x.csr
printf 'basicConstraints=critical,CA:true\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > x.ext
openssl x509 -req $days -in x.csr -CA root.crt.pem -CAkey prime256v1.pem -extfile x.ext -out mid.crt.pem
openssl req -new -key rsa2048.pem -subj "/CN=leaf.test" -out x.csr
{
    printf 'subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n'
    printf 'subjectAltName=email:a@b.test,DNS:leaf.test,URI:spiffe://tests/leaf?x=1,IP:10.1.2.3,DNS:*.leaf.test,IP:2001:db8::1,IP:::ffff:1.2.3.4\n'
} > x.ext
openssl x509 -req $days -in x.csr -CA mid.crt.pem -CAkey secp384r1.pem -extfile x.ext -out leaf.crt.pem
openssl req -new -key secp521r1.pem -subj "/CN=lone.test" -out x.csr
openssl x509 -req $days -in x.csr -CA root.crt.pem -CAkey prime256v1.pem -extfile x.ext -out other.crt.pem
# Neither key identifier, and a name that is hard to write.
openssl req -x509 $days -key ed25519.pem -utf8 -multivalue-rdn -out names.crt.pem \
    -subj '/DC=test/DC=keyferry/emailAddress=a@b.test/CN=first/serialNumber=7/OU=#one/OU=two, "three"/L=Käse/O= blank +UID=u;v/ST=<a\\b>/street=Way 1/postalCode=12345/CN=last ' \
    -addext subjectKeyIdentifier=none -addext authorityKeyIdentifier=none

cat mid.crt.pem root.crt.pem > x.chain
p12="openssl pkcs12 -export -inkey rsa2048.pem -in leaf.crt.pem"
$p12 -certfile x.chain "-passout" "pass:se cret-ä" -out modern.p12
$p12 -certfile x.chain -passout "pass:se cret" -legacy -out legacy.p12
$p12 -passout "pass:se cret" -legacy -certpbe PBE-SHA1-RC2-128 -keypbe PBE-SHA1-3DES -macalg sha1 -out rc2-128.p12
$p12 -passout "pass:se cret" -certpbe AES-128-CBC -keypbe AES-192-CBC -macalg sha512 -out aes.p12
$p12 -passout pass: -out empty.p12
$p12 -passout pass: -nomac -keypbe NONE -certpbe NONE -out open.p12
$p12 -passout "pass:se cret" -nomac -out nomac.p12
openssl pkcs12 -export -inkey prime256v1.pem -in root.crt.pem -passout "pass:se cret" -out ec.p12
openssl pkcs12 -export -nokeys -in root.crt.pem -passout "pass:se cret" -out nokey.p12
rm -f x.csr x.ext x.chain root.crt.srl mid.crt.srl -- *.srl
