//! The specification's own vectors: Level 3, §16 "Test Vectors" (<https://www.w3.org/TR/webauthn-3/#sctn-test-vectors>), as far as
//! they are needed. All are of the relying party `example.org`. Which flags they carry is random there: whoever asks for user
//! verification refuses most of them, for that alone.

use super::*;
use crate::ids::{Digest, sha256};

const ORIGIN: &str = "https://example.org";

/// An authentication of §16: the key from its registration, and what came of it.
struct Vector {
    section: &'static str,
    cose_key: &'static str,
    challenge: &'static str,
    authenticator_data: &'static str,
    client_data_json: &'static str,
    signature: &'static str,
    refused: Option<PasskeyError>,
}

fn vectors() -> [Vector; 6] {
    [
        Vector {
            section: "packed-es256",
            cose_key: "a50102032620012158201cf27f25da591208a4239c2e324f104f585525479a29edeedd830f48e77aeae522582059e4b\
                7da6c0106e206ce390c93ab98a15a5ec3887e57f0cc2bece803b920c423",
            challenge: "b1106fa46a57bef1781511c0557dc898a03413d5f0f17d244630c194c7e1adb5",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50d00000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a2273524276704770587676463\
                446524841565833496d4b4130453958773858306b526a44426c4d6668726255222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c226578747261446174612\
                23a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e61\
                6c206669656c647320696e20746865206675747572652c207375636820617320746869733a20415a4d77794d7849624\
                4382d756775464e7036723851227d",
            signature: "30450220694969d3ee928de6f02ef23a9c644d7d779916451734a94b432542f498a1ebe90221008b0819c824218a971\
                52cd099c55bfb1477b29d900a49a64018314f9bfccda163",
            refused: None,
        },
        Vector {
            section: "none-es256",
            cose_key: "a5010203262001215820afefa16f97ca9b2d23eb86ccb64098d20db90856062eb249c33a9b672f26df61225820930a5\
                6b87a2fca66334b03458abf879717c12cc68ed73290af2e2664796b9220",
            challenge: "39c0e7521417ba54d43e8dc95174f423dee9bf3cd804ff6d65c857c9abf4d408",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b51900000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a224f63446e55685158756c545\
                5506f334a5558543049393770767a7a59425039745a63685879617630314167222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73657d",
            signature: "3046022100f50a4e2e4409249c4a853ba361282f09841df4dd4547a13a87780218deffcd380221008480ac0f0b93538\
                174f575bf11a1dd5d78c6e486013f937295ea13653e331e87",
            refused: Some(PasskeyError::NotVerified),
        },
        Vector {
            section: "packed-eddsa",
            cose_key: "a401010327200621582044e06ddd331c36a8dc667bab52bcae63486c916aa5e339e6acebaa84934bf832",
            challenge: "895957e01c633a698348a2d8a31a54b7db27e8c1c43b2080d79ae2190267bfd2",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50100000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a2269566c583442786a4f6d6d4\
                4534b4c596f7870557439736e364d48454f7943413135726947514a6e763949222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73657d",
            signature: "f5c59c7e46c34f6f8cc197101ddf9934fa2595f68eb1913a637e8419eb9ba4cfdfc48f85393bc0d40b011f0d6fecb09\
                7d6607525713223a0dc0d453993dae00b",
            refused: Some(PasskeyError::NotVerified),
        },
        Vector {
            section: "packed-rs256",
            cose_key: "a4010303390100205901b403fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                ffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7ffffffffffffffffffffffffffffffffffff\
                fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
                ffff8000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
                00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
                00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
                0000000000000000000000000000000000000012143010001",
            challenge: "295f59f5fa8fe62c5aca9e27626c78c8da376ae6d8cd2dd29aebad601e1bc4c5",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b51900000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a224b56395a396671503569786\
                17970346e596d7834794e6f33617562597a5333536d75757459423462784d55222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73657d",
            signature: "01063d52d7c39b4d432fc7063c5d93e582bdcb16889cd71f888d67d880ea730a428498d3bc8e1ee11f2b1ecbe6c292b\
                118c55ffaaddefa8cad0a54dd137c51f1eec673f1bb6c4d1789d6826a222b22d0f585fc901fdc933212e579d199b89d\
                672aa44891333e6a1355536025e82b25590256c3538229b55737083b2f6b9377e49e2472f11952f79fdd0da180b5ffd\
                901b4049a8f081bb40711bef76c62aed943571f2d0575304cb549d68d8892f95086a30f93716aee818f8dc06e96c0d5\
                e0ed4cfa9fd8773d90464b68cf140f7986666ff9c9e3302acd0535d60d769f465e2ab57ef8aabc89fccfef7ba32a641\
                54a8b3d26be2298f470b8cc5377dbe3dfd4b0b45f8f01e63bde6cfc76b62771f9b70aa27cf40152cad93aa5acd784fd\
                4b90f676e2ea828d0bf2400aebbaae4153e5838f537f88b6228346782a93a899be66ec77de45b3efcf311da6321c92e\
                6b0cd11bfe653bf3e98cee8e341f02d67dbb6f9c98d9e8178090cfb5b70fbc6d541599ac794ae2f1d4de1286ec8de8c\
                2daf7b1d15c8438e90d924df5c19045220a4c8438c1b979bbe016cf3d0eeec23c3999d4882cc645b776de930756612c\
                dc6dd398160ff02a6",
            refused: Some(PasskeyError::NotVerified),
        },
        Vector {
            section: "none-es256-crossOrigin",
            cose_key: "a501020326200121582022200a473f90b11078851550d03b4e44a2279f8c4eca27b3153dedfe03e4e97d225820cbd0b\
                e95e746ad6f5a8191be11756e4c0420e72f65b466d39bc56b8b123a9c6e",
            challenge: "876aa517ba83fdee65fcffdbca4c84eeae5d54f8041a1fc85c991e5bbb273137",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50500000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a226832716c463771445f65356\
                c5f505f62796b7945377135645650674547685f49584a6b655737736e4d5463222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a747275652c22657874726144617461223\
                a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c\
                206669656c647320696e20746865206675747572652c207375636820617320746869733a20393270635456443041627\
                92d713464746d6a36656667227d",
            signature: "3046022100eb12fcf23b12764c0f122e22371fab92e283879fd798f38ee1841c951b6e40e7022100c76237ff9db77b3\
                c56f30837cda6a09acfa2e915544e609c0733b1184036d1cf",
            refused: Some(PasskeyError::CrossOrigin),
        },
        Vector {
            section: "none-es256-topOrigin",
            cose_key: "a5010203262001215820a1c47c1d82da4ebe82cd72207102b380670701993bc35398ae2e5726427fe01d22582086c10\
                80d82987028c7f54ecb1b01185de243b359294a0ed210cd47480f0adc88",
            challenge: "d54a5c8ca4b62a8e3bb321e3b2bc73856f85a10150db2939ac195739eb1ea066",
            authenticator_data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50500000000",
            client_data_json: "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a22315570636a4b53324b6f343\
                77379486a7372787a68572d466f51465132796b3572426c584f6573656f4759222c226f726967696e223a2268747470\
                733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a747275652c22746f704f726967696e223\
                a2268747470733a2f2f6578616d706c652e636f6d222c22657874726144617461223a22636c69656e74446174614a53\
                4f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e2074686\
                5206675747572652c207375636820617320746869733a205569466f4a4d56525148444146574669347678557051227d",
            signature: "3045022100b5a70c81780d5fcc9a4f2ae9caae99058f8accaf58b91fb59329646c28ac6ffc022012e101c165db3c8e9\
                957f0c54dd6ca9b56bc3bd2f280bd2faa6c1d02c6e5c171",
            refused: Some(PasskeyError::CrossOrigin),
        },
    ]
}

/// "ES256 Credential with Self Attestation".
const SELF_CHALLENGE: &str = "7869c2b772d4b58eba9378cf8f29e26cf935aa77df0da89fa99c0bdc0a76f7e5";
const SELF_CLIENT_DATA_JSON: &str = "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a2265476e4374334c55745936366b336\
    a506a796e6962506b31716e666644616966715a774c33417032392d55222c226f726967696e223a2268747470733a2f2f6578616d70\
    6c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534\
    f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572\
    652c207375636820617320746869733a205539685458764b453255526b4d6e625f307859485667227d";
const SELF_OBJECT: &str = "a363666d74667061636b65646761747453746d74a263616c672663736967584630440220067a20754ab925005dbf378097c92120031\
    581c73228d1fb4f5b881bcd7da98302207fc7b147558c7c0eba3af18bd9d121fa3d3a26d17fe3f220272178f473b6006d6861757468\
    4461746158a4bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b55d00000000df850e09db6afbdfab516\
    97791506cfc0020455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58ca5010203262001215820eb151c81\
    76b225cc651559fecf07af450fd85802046656b34c18f6cf193843c5225820927b8aa427a2be1b8834d233a2d34f61f13bfd44119c3\
    25d5896e183fee484f2";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).expect("hex")
}

fn digest(hex: &str) -> Digest {
    Digest::from_bytes(bytes(hex).try_into().expect("32 bytes"))
}

#[test]
fn signatures_of_the_specification_verify_and_its_flags_decide_the_rest() {
    let origins = [ORIGIN.to_owned()];
    let rp = RelyingParty { rp_id: "example.org", origins: &origins };
    for v in vectors() {
        let key = CoseKey::from_cose(&bytes(v.cose_key)).expect(v.section);
        assert_eq!(key.check(), Ok(()), "{}", v.section);
        let (data, client, signature) = (bytes(v.authenticator_data), bytes(v.client_data_json), bytes(v.signature));
        let signed = [&data[..], &sha256(&client)].concat();
        assert_eq!(key.verify(&signed, &signature), Ok(()), "{}", v.section);
        assert_eq!(key.verify(&signed[1..], &signature), Err(PasskeyError::Signature), "{}", v.section);
        let passkey = Passkey::new(vec![1; 32], key).expect("bounds");
        let assertion = Assertion::new(data, client, signature).expect("bounds");
        assert_eq!(assertion.verify(&passkey, &digest(v.challenge), &rp).err(), v.refused, "{}", v.section);
    }
}

#[test]
fn a_registration_of_the_specification_is_taken_as_unattested() {
    let origins = [ORIGIN.to_owned()];
    let rp = RelyingParty { rp_id: "example.org", origins: &origins };
    let registration = Registration::new(bytes(SELF_OBJECT), bytes(SELF_CLIENT_DATA_JSON)).expect("bounds");
    let registered = registration.verify(&digest(SELF_CHALLENGE), &rp).expect("it keeps every rule");
    assert_eq!((registered.format.as_str(), registered.passkey.key().algorithm()), ("packed", Algorithm::Es256));
    assert_eq!(hex::encode(registered.aaguid), "df850e09db6afbdfab51697791506cfc");
    assert!(registered.backup_eligible && registered.backed_up);
}
